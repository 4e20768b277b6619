#!/usr/bin/python3
"""Makes ESP packets with scapy: esp_make.py LIST.json OUT.pcap  (the list: see esp.py)"""

import sys

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

from esp import Codec, read_packets


def frame(packet):
    inner = bytes.fromhex(packet["inner"]) + bytes(packet.get("tfc", 0))
    payload = Raw(Codec(packet).seal(inner))
    if packet["udp"]:
        source, destination = packet["udp"]
        # RFC 3948, section 2.1: the checksum should be zero.
        payload = UDP(sport=source, dport=destination, chksum=0) / payload
    protocol = 17 if packet["udp"] else 50
    addresses = {"src": packet["source"], "dst": packet["destination"]}
    if ":" in packet["source"]:
        outer = IPv6(nh=protocol, **addresses)
    else:
        outer = IP(proto=protocol, flags="DF", **addresses)
    return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / outer / payload


def main():
    source, target = sys.argv[1:]
    frames = [frame(packet) for packet in read_packets(source)]
    # In the order of the list: the reader matches them by position.
    wrpcap(target, frames)
    print(f"made {len(frames)} packets")


main()
