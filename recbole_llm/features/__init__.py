"""``recbole_llm encode``: feature files of items from their text or images by frozen encoders."""
