"""Texts to texts: translation, summaries, answers, dates in another form.

`holdfast.tasks.Translator` is the way in.
"""
