"""The configuration as what `network` and `containers` want to know of it."""

from __future__ import annotations

from wherry.daemon.config import Config
from wherry.network.settings import NetworkSettings


def network_settings(config: Config) -> NetworkSettings:
    """Return how networks are made."""
    return NetworkSettings(
        pools=config.default_address_pools,
        bridge=config.bridge,
        bip=config.bip,
        bip6=config.bip6,
        fixed_cidr=config.fixed_cidr,
        fixed_cidr6=config.fixed_cidr_v6,
        default_gateway=config.default_gateway,
        default_gateway6=config.default_gateway_v6,
        ip=config.ip,
        ipv6=config.ipv6,
        icc=config.icc,
        mtu=config.mtu,
        firewall=config.iptables,
        allow_direct=config.allow_direct_routing,
        defaults=config.default_network_opts,
        ip_masq=config.ip_masq,
        ip_forward=config.ip_forward,
        ip_forward_no_drop=config.ip_forward_no_drop,
        forward_accept=config.firewall_allow_forward,
    )
