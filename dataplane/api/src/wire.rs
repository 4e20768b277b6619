//! The encoding on the socket: one message a `SOCK_SEQPACKET` packet, in postcard.

use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// Largest message in bytes. Below the default socket buffer of Linux (212,992 bytes), with room
/// for what the kernel adds.
pub const MAX_MESSAGE: usize = 128 * 1024;

/// How many routes fit one [`crate::Update::PutRoutes`] with room to spare (a route takes at most
/// 45 bytes).
pub const ROUTES_PER_MESSAGE: usize = 2_000;

/// A message that cannot be sent or understood.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The encoded message is larger than [`MAX_MESSAGE`]: split it.
    #[error("message of {0} bytes is larger than the limit of {MAX_MESSAGE}: split it")]
    TooLarge(usize),
    /// The bytes are not a message of this version.
    #[error("undecodable message: are both processes of the same version? ({0})")]
    Undecodable(#[from] postcard::Error),
    /// Bytes follow the message.
    #[error("{0} bytes follow the message: are both processes of the same version?")]
    TrailingBytes(usize),
}

/// Encodes a message. The buffer is wiped when dropped, because it may hold keys.
///
/// # Errors
/// When the message is larger than [`MAX_MESSAGE`].
pub fn encode<M: Serialize>(message: &M) -> Result<Zeroizing<Vec<u8>>, WireError> {
    let bytes = Zeroizing::new(postcard::to_stdvec(message)?);
    if bytes.len() > MAX_MESSAGE {
        return Err(WireError::TooLarge(bytes.len()));
    }
    Ok(bytes)
}

/// Decodes a message; all bytes must belong to it.
///
/// # Errors
/// When the bytes are not exactly one message.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, WireError> {
    let (message, rest) = postcard::take_from_bytes(bytes)?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(WireError::TrailingBytes(rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{FromDataplane, NextHop, Request, Route, TableId, Update};

    #[test]
    fn a_full_route_message_fits() {
        let routes = (0..ROUTES_PER_MESSAGE)
            .map(|_| Route {
                prefix: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128"
                    .parse()
                    .unwrap(),
                next_hop: NextHop::Inside {
                    port: crate::PortId(u16::MAX),
                    vlan: Some(4094),
                    gateway: Some("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()),
                },
            })
            .collect();
        let message = Request::Stage(vec![Update::PutRoutes {
            table: TableId::MAIN,
            routes,
        }]);
        let bytes = encode(&message).unwrap();
        assert_eq!(decode::<Request>(&bytes).unwrap(), message);
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&Request::Commit).unwrap().to_vec();
        bytes.push(0);
        assert!(matches!(
            decode::<Request>(&bytes),
            Err(WireError::TrailingBytes(1))
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<Request>(&bytes);
            let _ = decode::<FromDataplane>(&bytes);
        }
    }
}
