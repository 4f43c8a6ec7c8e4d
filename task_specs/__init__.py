"""Declared content: task types, datasets, prompt banks and label spaces, as YAML files beside this one."""
