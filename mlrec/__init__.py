"""mlrec: joint training of video encoders and recommenders on streamed MicroLens shards."""

__version__ = "0.1.0"
