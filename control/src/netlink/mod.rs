//! The kernel: a mirror of its links, addresses and neighbours, route look-ups, and the few things
//! that control asks of it (resolve a neighbour, set up the TUN device).
//!
//! Hawser routes by its own tables; of the kernel it only needs to know how outer packets leave
//! (interface, next hop, its Ethernet address) and what is on the inside links. The kernel does
//! not see the traffic, so it would let the entries of neighbours in use go stale: control asks it
//! to confirm them.

mod mirror;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
pub use mirror::{Changes, Link, Mirror, NeighbourEntry, Reach};
use rtnetlink::{
    Handle, IpVersion, LinkUnspec, MulticastGroup, RouteMessageBuilder,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        neighbour::{NeighbourFlags, NeighbourState},
        route::{
            RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteType,
        },
    },
    sys::{AsyncSocket, SocketAddr},
};

use crate::config::HostView;

/// Marks kernel routes as ours. Numbers from 192 up are free for local use (rtnetlink(7)).
const ROUTE_PROTOCOL: u8 = 209;

/// Room for messages that wait for us, in octets: a burst of some thousand routes.
const RECEIVE_BUFFER: i32 = 1 << 20;

/// What went wrong in talking to the kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[from] std::io::Error),
    /// A request failed.
    #[error("netlink: {0}")]
    Request(#[from] rtnetlink::Error),
}

/// How a packet to some address leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Index of the interface.
    pub ifindex: u32,
    /// The router on that interface; `None` when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// MTU that the route sets.
    pub mtu: Option<u32>,
}

type Messages =
    futures_channel::mpsc::UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// The kernel of the network namespace that we run in.
pub struct Kernel {
    handle: Handle,
    messages: Messages,
    mirror: Mirror,
    /// Messages were lost: everything must be read again.
    stale: bool,
}

impl Kernel {
    /// Subscribes to changes, then reads everything once.
    ///
    /// # Errors
    /// When there is no netlink socket, or reading fails.
    pub async fn open() -> Result<Self, KernelError> {
        let (mut connection, handle, messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Neigh,
        ])?;
        // The kernel caps it at its limit; a smaller buffer only means reading again more often.
        let _ = connection
            .socket_mut()
            .socket_mut()
            .set_rx_buf_sz(RECEIVE_BUFFER);
        tokio::spawn(connection);
        let mut kernel = Self {
            handle,
            messages,
            mirror: Mirror::default(),
            stale: false,
        };
        kernel.read_all().await?;
        Ok(kernel)
    }

    /// What the kernel knows.
    #[must_use]
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// What a configuration is checked against.
    #[must_use]
    pub fn host_view(&self) -> HostView {
        let mirror = &self.mirror;
        HostView {
            interfaces: mirror.links.values().map(|l| l.name.clone()).collect(),
            addresses: mirror
                .links
                .values()
                .flat_map(|l| {
                    mirror
                        .addresses_of(l.index)
                        .iter()
                        .map(|n| (l.name.clone(), *n))
                })
                .collect(),
        }
    }

    async fn read_all(&mut self) -> Result<(), KernelError> {
        let mut mirror = Mirror::default();
        let mut links = self.handle.link().get().execute();
        while let Some(message) = links.try_next().await? {
            mirror.apply(RouteNetlinkMessage::NewLink(message));
        }
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses.try_next().await? {
            mirror.apply(RouteNetlinkMessage::NewAddress(message));
        }
        let mut neighbours = Box::pin(self.handle.neighbours().get().execute());
        while let Some(message) = neighbours.try_next().await? {
            mirror.apply(RouteNetlinkMessage::NewNeighbour(message));
        }
        self.mirror = mirror;
        Ok(())
    }

    /// Looks for a link that the kernel may not have told us of yet.
    pub async fn find_link(&mut self, name: &str) -> Option<Link> {
        let mut answers = Box::pin(self.handle.link().get().match_name(name).execute());
        let message = answers.try_next().await.ok()??;
        drop(answers);
        self.mirror.apply(RouteNetlinkMessage::NewLink(message));
        self.mirror.link(name).cloned()
    }

    /// Waits for changes and takes them into the mirror. May be dropped while it waits.
    ///
    /// # Errors
    /// When the netlink socket is lost.
    pub async fn changed(&mut self) -> Result<Changes, KernelError> {
        if self.stale {
            self.read_all().await?;
            self.stale = false;
            return Ok(Changes::ALL);
        }
        let closed = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let mut next = Some(self.messages.next().await.ok_or_else(closed)?);
        let mut changes = Changes::default();
        while let Some((message, _)) = next {
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => changes.merge(self.mirror.apply(inner)),
                // The kernel had more to say than the socket could hold: what was lost is
                // unknown, so everything is read again.
                NetlinkPayload::Overrun(_) => self.stale = true,
                _ => {}
            }
            next = self.messages.try_recv().ok();
        }
        // Read anew in the next call: waiting here could be broken off.
        Ok(if self.stale {
            Changes::default()
        } else {
            changes
        })
    }

    /// How packets from `local` to `remote` leave; `None` when there is no route.
    pub async fn path_to(&self, remote: IpAddr, local: IpAddr) -> Option<Path> {
        let host = IpNet::from(remote);
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(remote, host.prefix_len())
            .ok()?;
        // A source that is not ours would be refused; policy routing by source then cannot apply.
        if self.mirror.has_address(local) {
            builder = builder.source_prefix(local, host.prefix_len()).ok()?;
        }
        let mut answers = Box::pin(self.handle.route().get(builder.build()).execute());
        path_of(&answers.try_next().await.ok()??)
    }

    /// Where the kernel would send from to `remote`: the interface's index and our address on it.
    pub async fn source_to(&self, remote: IpAddr) -> Option<(u32, IpAddr)> {
        let request = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(remote, IpNet::from(remote).prefix_len())
            .ok()?;
        let mut answers = Box::pin(self.handle.route().get(request.build()).execute());
        let route = answers.try_next().await.ok()??;
        let source = route.attributes.iter().find_map(|a| match a {
            RouteAttribute::PrefSource(RouteAddress::Inet(v4)) => Some(IpAddr::from(*v4)),
            RouteAttribute::PrefSource(RouteAddress::Inet6(v6)) => Some(IpAddr::from(*v6)),
            _ => None,
        })?;
        Some((path_of(&route)?.ifindex, source))
    }

    /// Asks the kernel to resolve a neighbour, or to confirm one that it knows.
    pub async fn resolve(&self, ifindex: u32, address: IpAddr) {
        let request = self
            .handle
            .neighbours()
            .add(ifindex, address)
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace();
        if let Err(error) = request.execute().await {
            tracing::debug!(%address, ifindex, %error, "the kernel would not resolve a neighbour");
        }
    }

    /// Brings the TUN device up with these addresses and routes, and removes others of its own.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn set_up_tun(
        &self,
        link: &Link,
        addresses: &BTreeSet<IpNet>,
        routes: &BTreeSet<IpNet>,
    ) -> Result<(), KernelError> {
        quiet_tun(&link.name, addresses.iter().any(|net| net.addr().is_ipv6()));
        for net in self.mirror.addresses_of(link.index) {
            let link_local = matches!(net, IpNet::V6(v6) if v6.addr().is_unicast_link_local());
            if !addresses.contains(net) && !link_local {
                self.delete_address(link.index, *net).await?;
            }
        }
        if !link.enabled {
            let up = LinkUnspec::new_with_index(link.index);
            self.handle.link().set(up.up().build()).execute().await?;
        }
        for net in addresses {
            let request = self
                .handle
                .address()
                .add(link.index, net.addr(), net.prefix_len());
            request.replace().execute().await?;
        }
        self.host_routes(link.index, routes).await
    }

    async fn delete_address(&self, ifindex: u32, net: IpNet) -> Result<(), KernelError> {
        let mut request = self
            .handle
            .address()
            .add(ifindex, net.addr(), net.prefix_len());
        let message = request.message_mut().clone();
        match self.handle.address().del(message).execute().await {
            // It went by itself in the meantime.
            Err(rtnetlink::Error::NetlinkError(error))
                if error.raw_code() == -rustix::io::Errno::ADDRNOTAVAIL.raw_os_error() =>
            {
                Ok(())
            }
            other => Ok(other?),
        }
    }

    async fn host_routes(&self, tun: u32, wanted: &BTreeSet<IpNet>) -> Result<(), KernelError> {
        let mut missing = wanted.clone();
        for version in [IpVersion::V4, IpVersion::V6] {
            let filter = match version {
                IpVersion::V4 => RouteMessageBuilder::<Ipv4Addr>::new().build(),
                IpVersion::V6 => RouteMessageBuilder::<Ipv6Addr>::new().build(),
            };
            let mut routes = Box::pin(self.handle.route().get(filter).execute());
            let mut stale = Vec::new();
            while let Some(route) = routes.try_next().await? {
                let ours = route.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL)
                    && route.attributes.contains(&RouteAttribute::Oif(tun));
                if let Some(net) = destination_of(&route).filter(|_| ours)
                    && !missing.remove(&net)
                {
                    stale.push(route);
                }
            }
            for route in stale {
                self.handle.route().del(route).execute().await?;
            }
        }
        for net in missing {
            let builder = RouteMessageBuilder::<IpAddr>::new()
                .protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
                .output_interface(tun);
            let Ok(builder) = builder.destination_prefix(net.network(), net.prefix_len()) else {
                continue;
            };
            self.handle
                .route()
                .add(builder.build())
                .replace()
                .execute()
                .await?;
        }
        Ok(())
    }
}

/// Keeps the kernel from talking on the TUN device by itself, and from dropping what comes out of
/// it because the way back leads elsewhere (traffic may return on any tunnel).
fn quiet_tun(name: &str, ipv6: bool) {
    let settings = [
        (format!("/proc/sys/net/ipv6/conf/{name}/addr_gen_mode"), "1"),
        (
            format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"),
            if ipv6 { "0" } else { "1" },
        ),
        (format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "2"),
    ];
    for (path, value) in settings {
        if let Err(error) = std::fs::write(&path, value) {
            tracing::debug!(path, %error, "a setting of the TUN device was not made");
        }
    }
}

fn destination_of(route: &RouteMessage) -> Option<IpNet> {
    let length = route.header.destination_prefix_length;
    route
        .attributes
        .iter()
        .find_map(|a| match a {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::from(*v4)),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::from(*v6)),
            _ => None,
        })
        .and_then(|address| IpNet::new(address, length).ok())
}

fn path_of(route: &RouteMessage) -> Option<Path> {
    // Blackhole, unreachable and prohibit are answered as errors; local means that the peer's
    // address is ours.
    if route.header.kind != RouteType::Unicast {
        return None;
    }
    let (mut ifindex, mut gateway, mut mtu) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => gateway = Some(IpAddr::from(*v4)),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => gateway = Some(IpAddr::from(*v6)),
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    if let RouteMetric::Mtu(value) = metric {
                        mtu = Some(*value);
                    }
                }
            }
            _ => {}
        }
    }
    Some(Path {
        ifindex: ifindex?,
        gateway,
        mtu,
    })
}

/// How many receive queues of an interface are in use; `None` when its driver does not say.
///
/// `IFLA_NUM_RX_QUEUES` is what was allocated, `/sys/class/net` may belong to another network
/// namespace; the driver's channels are what the packets really go to.
pub async fn receive_queues(interface: &str) -> Option<u32> {
    use ethtool::{EthtoolAttr, EthtoolChannelAttr};
    let (connection, mut handle, _) = ethtool::new_connection().ok()?;
    let connection = tokio::spawn(connection);
    let answer = {
        let mut answers = Box::pin(handle.channel().get(Some(interface)).execute().await);
        answers.try_next().await
    };
    connection.abort();
    let mut queues = 0;
    for attribute in answer.ok()??.payload.nlas {
        // A combined channel receives and sends; some drivers have channels of one kind only.
        if let EthtoolAttr::Channel(
            EthtoolChannelAttr::RxCount(n) | EthtoolChannelAttr::CombinedCount(n),
        ) = attribute
        {
            queues += n;
        }
    }
    (queues > 0).then_some(queues)
}
