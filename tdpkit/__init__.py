"""A Jupyter teaching kit in which a review of KVM's TDP MMU can be run."""
