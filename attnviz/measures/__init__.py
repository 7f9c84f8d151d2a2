"""Numbers about attention maps and models: functions of arrays, tested against loops."""
