"""What a data set holds, and what in it could make numbers say more than they should."""
