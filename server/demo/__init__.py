"""The demonstration: small adapters really trained on checkable data, served and asked all at once."""
