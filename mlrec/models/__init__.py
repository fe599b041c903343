"""The model side: encoders, fusion, item tower, sequence models, recommender."""
