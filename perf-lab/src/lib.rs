//! Network labs in namespaces: topologies, traffic, measurements.
