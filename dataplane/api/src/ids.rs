//! Newtypes for what must not be mixed.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number as an index into a dense table.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A tunnel: one outside address pair with its SAs. Control numbers them densely from 0.
    TunnelId(u32)
);
id!(
    /// A next-hop group: the tunnels that a route spreads its flows over.
    GroupId(u32)
);
id!(
    /// A network interface that the data plane serves, numbered densely from 0.
    PortId(u16)
);
id!(
    /// A route table. Table 0 is `main`.
    TableId(u16)
);
id!(
    /// A worker, numbered densely from 0.
    WorkerId(u16)
);

impl TableId {
    /// The route table that everything uses unless told otherwise.
    pub const MAIN: Self = Self(0);
}

/// A Security Parameters Index (RFC 4303, section 2.1). Values 0 to 255 are reserved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spi(pub u32);

impl Spi {
    /// The smallest SPI that may be used on the wire (RFC 4303, section 2.1).
    pub const FIRST_USABLE: u32 = 256;
}

impl std::fmt::Display for Spi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl std::fmt::Debug for Spi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spi({self})")
    }
}
