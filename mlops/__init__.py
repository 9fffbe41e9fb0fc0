"""What a team needs around a training: files, images, scores, promotion, and MLflow."""
