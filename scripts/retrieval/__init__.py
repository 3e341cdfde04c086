"""Recall and zero-shot accuracy of any installed model; run by ../eval_retrieval.py."""
