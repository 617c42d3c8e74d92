"""The groups that are found in torchvision, timm and transformers."""
