//! The host path: a TUN device through which packets for the inside tunnel addresses reach the
//! kernel's stack, and its answers come back. So any routing daemon on the host works.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use hawser_api::TunSetup;
use hawser_xsk::{Frame, FramePool};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// Packets read in one go. The host path carries control traffic: enough for a burst of BGP.
const BURST: usize = 32;

/// One worker's handle of the TUN device.
#[derive(Clone)]
pub struct Host {
    device: Arc<SyncDevice>,
}

impl Host {
    /// Makes the device. Control gives it its addresses and brings it up.
    ///
    /// # Errors
    /// When the privilege is missing or the name is taken.
    pub fn open(setup: &TunSetup) -> io::Result<Self> {
        let device = DeviceBuilder::new()
            .name(&setup.name)
            .layer(Layer::L3)
            .mtu(setup.mtu)
            .enable(false)
            .build_sync()?;
        device.set_nonblocking(true)?;
        Ok(Self {
            device: Arc::new(device),
        })
    }

    /// Gives packets to the host. Returns how many it did not take; all frames are free after.
    pub fn send(&self, frames: &mut Vec<Frame>, pool: &mut FramePool) -> u64 {
        let mut lost = 0;
        for frame in frames.drain(..) {
            lost += u64::from(self.device.send(frame.bytes()).is_err());
            pool.give(frame);
        }
        lost
    }

    /// Takes packets from the host, as many as wait and fit one burst.
    pub fn receive(&self, frames: &mut Vec<Frame>, pool: &mut FramePool) {
        for _ in 0..BURST {
            let Some(mut frame) = pool.take() else { return };
            frame.reset();
            let room = frame.tailroom();
            let len = frame
                .grow_back(room)
                .then(|| self.device.recv(frame.bytes_mut()));
            match len {
                Some(Ok(len)) => {
                    frame.truncate(len);
                    frames.push(frame);
                }
                Some(Err(_)) | None => return pool.give(frame),
            }
        }
    }
}

impl AsFd for Host {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}
