"""The KFP components: one folder per stage, each a call of the stage's function in `untrigger.stages`."""
