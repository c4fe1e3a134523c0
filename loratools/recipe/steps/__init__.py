"""The kinds of recipe steps, one module each: the model of its options, ``KIND`` (what the kind is, see
:mod:`loratools.recipe.schema.kinds`, where it is listed) and ``draft(request)``, which resolves a step to a draft."""
