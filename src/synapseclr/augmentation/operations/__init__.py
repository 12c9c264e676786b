"""Operations of the augmentation; each is one class: its parameters, its draw, its application."""
