//! Kubernetes objects as facts for the inventory.
