"""Our models and index as components of other libraries: `langchain`, `haystack`, `llama_index`.

Each is a module to import by name, and needs its library.
"""
