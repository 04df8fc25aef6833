"""The variables that name proxies, and what must never go through one.

Every client has its own idea of loopback: some send even 127.0.0.1 to a proxy, which cannot reach
what is on this machine. All of them leave out what NO_PROXY names.
"""

from collections.abc import Mapping

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def proxy_variables(environ: Mapping[str, str], *direct: str) -> dict[str, str]:
    """The proxies of an environment, with loopback left out; nothing where there are none.

    Args:
        environ: the environment; the names may be in small or capital letters.
        direct: more hosts that are reached without a proxy.

    Returns:
        Variables by name. Values may hold a user's password.
    """
    proxies = {name: value for name, value in environ.items() if name.lower() in _PROXIES and value}
    if not proxies:
        return {}
    # Clients differ in which of the two they read.
    direct_names = f"{environ.get('no_proxy', '')},{environ.get('NO_PROXY', '')}".split(",")
    names = [name.strip() for name in (*direct_names, *LOOPBACK, *direct)]
    # Everything is left out by a `*` that stands alone: beside others it is taken for a name.
    left_out = "*" if "*" in names else ",".join(dict.fromkeys(name for name in names if name))
    return proxies | {"NO_PROXY": left_out, "no_proxy": left_out}
