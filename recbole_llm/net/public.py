"""Connections to public addresses only, for addresses that come out of a dataset.

What a name resolves to is checked, and not the name: redirects lead anywhere, and 2130706433 is
127.0.0.1 as well. It is checked again once a connection is made, for the name may have changed.
"""

import ipaddress
import socket
from contextlib import suppress
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class NotPublicError(Exception):
    """A host of this machine or of its network.

    No OSError, which urllib3 would take for a lost connection and requests would try again.
    """


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet's.

    Args:
        address: IPv4 or IPv6 address; an IPv4 address inside an IPv6 one counts as itself.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast


class PublicAdapter(HTTPAdapter):
    """Refuses connections to other than public addresses.

    Behind a proxy, which makes the connection itself, it is the proxy that decides.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools whose connections are checked."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PublicPool, "https": _PublicTlsPool}


class _PublicConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        """Return a connection to a public address.

        Raises:
            NotPublicError: the address is private, loopback, link-local or reserved.
        """
        found: list[Any] = []
        with suppress(OSError, UnicodeError):  # no such host, which the connection will say
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        for *_, address in found:
            _check(address[0])
        connection = super()._new_conn()
        try:
            _check(connection.getpeername()[0])
        except NotPublicError:
            connection.close()
            raise
        return connection


def _check(address: str) -> None:
    if not is_public(address):
        raise NotPublicError(address)


class _PublicTlsConnection(_PublicConnection, HTTPSConnection):
    pass


class _PublicPool(HTTPConnectionPool):
    ConnectionCls = _PublicConnection


class _PublicTlsPool(HTTPSConnectionPool):
    ConnectionCls = _PublicTlsConnection
