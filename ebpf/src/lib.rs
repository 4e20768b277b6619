//! Loads the XDP program and owns its maps.
