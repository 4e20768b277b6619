//! Messages between the control process and the data plane.
