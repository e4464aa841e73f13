//! Images: references, the store, import and unpacking.
