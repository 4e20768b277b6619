//! Numbers of an IANA registry as an enum that loses none of them.

/// An enum over a registry: known numbers by name, every other one in `Other`.
///
/// `From` makes the named variant where there is one, so that values compare by their number as
/// long as `Other` is not written by hand for a known number.
macro_rules! codes {
    (
        $(#[$doc:meta])*
        $name:ident($inner:ty) {
            $($(#[$variant_doc:meta])* $variant:ident = $number:literal, $text:literal;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A number without a name here.
            Other($inner),
        }

        impl From<$inner> for $name {
            fn from(number: $inner) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    other => Self::Other(other),
                }
            }
        }

        impl From<$name> for $inner {
            fn from(code: $name) -> Self {
                match code {
                    $($name::$variant => $number,)*
                    $name::Other(other) => other,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$variant => f.pad($text),)*
                    Self::Other(other) => write!(f, "{other}"),
                }
            }
        }
    };
}

pub(crate) use codes;
