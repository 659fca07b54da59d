//! What a container may and may not, and how it ends.
