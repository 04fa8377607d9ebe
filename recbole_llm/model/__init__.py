"""The models: one file each, or one folder whose parts serve it alone; see ``registry``."""
