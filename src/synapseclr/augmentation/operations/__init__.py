"""Operations of the augmentation, one in each file named after it: its parameters, its draw, its application."""
