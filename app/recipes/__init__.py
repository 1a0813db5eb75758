"""What a recipe says, and the stages that carry it out."""
