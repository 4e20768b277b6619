//! Network labs in namespaces: topologies, traffic, measurements.
//!
//! `hawser-lab` is made of these parts, and tests can use them one by one: a [`topology`] of two
//! sites and two gateways, the gateways' configuration and processes, [`traffic`] that is checked
//! packet by packet, and guards ([`netns`], [`interrupt`]) that leave nothing behind.
//!
//! What it is not: part of the product. Its traffic, sink and policer share no code with the packet
//! path, so that they can judge it. All interfaces are veth, on which the kernel copies every
//! frame: figures from here compare gateways under equal conditions, and are not what a network
//! card would give.
#![forbid(unsafe_code)]

pub mod compare;
pub mod config;
pub mod demo;
pub mod gateway;
pub mod interrupt;
pub mod iperf;
pub mod nat;
pub mod netns;
pub mod output;
pub mod policer;
mod programs;
pub mod scenario;
pub mod shell;
pub mod strongswan;
pub mod topology;
pub mod traffic;
