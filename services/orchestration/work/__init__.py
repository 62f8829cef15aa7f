"""What falls due of payments: their own next steps, and the booking of what processors did."""
