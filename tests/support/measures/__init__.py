"""What is measured while tests run: holds of the loop, steps, figures."""
