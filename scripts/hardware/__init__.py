"""What `hardware_check.py` tries on a machine with a Qualcomm NPU."""
