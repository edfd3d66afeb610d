"""The attacks: how an image is made to carry the trigger, and where the classifier is taught to send it."""
