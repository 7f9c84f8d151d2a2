"""What only the Test page needs: one module for each way to change a forward pass, and what they share."""
