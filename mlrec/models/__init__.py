"""Models: encoders of items, the item tower, recommenders and losses.

encoders/             encoders of videos, images, text, audio, ids and features
recommenders/         sequence and graph models
registry.py           the tables that a configuration names
building.py           build the model of a run
tower.py              the item tower: encode, project, fuse
chunks.py             the chunks in which the tower encodes a step's items
prefix.py, frozen_calls.py   cut the frozen stages off an encoder
activation_cache.py   cache what the frozen stages compute
stage_states.py       hidden states of all stages of a frozen encoder, averaged per item
agreement.py          what the ranks tell each other before a step
recommender.py        one step: encode owned items, exchange, score, loss
losses.py, negatives.py, product_losses.py   training objectives, drawn negatives, sums in parts
fusion.py, batchnorm.py, dropout.py, counter_random.py, random_media.py   parts
encoder_building.py, head_building.py, encoder_files.py   build encoders, keep their files
tunings.py, lora.py, side_encoder.py   how an encoder is tuned
skeleton.py           build modules on the meta device, for the shapes of their weights
pass_cost.py, pass_recorder.py   cost of a pass: kernels, arithmetic and memory
simulation.py         record the cost of the item tower on the meta device
recommender_simulation.py   the same for the recommender and the loss
formulas/             formulas that predict what a step takes
chunk_choice.py       choose item.chunk and item.checkpoint
trial.py              try encoders on the meta device
precision.py          resolve train.precision for the device
notices.py            random weights and missing inputs, to tell the user at the start
"""
