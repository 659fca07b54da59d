//! Whether images are loaded, found and removed.
