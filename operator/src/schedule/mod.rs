//! Pods to their bytes: the webhooks and the scheduler extender.
