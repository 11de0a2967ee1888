"""What happens, in which order, and whether it may go on."""
