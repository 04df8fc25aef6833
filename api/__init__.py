"""What answers online: a picture of a digit comes in, the digit goes out."""
