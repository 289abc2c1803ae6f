"""A stand-in for Ryuk, the reaper of testcontainers, whose own image is on a registry out of reach.

It speaks Ryuk's protocol on port 8080: a line is a filter (`label=a=b&label=c`), answered with `ACK`. When
the last connection has ended and none came for RYUK_RECONNECTION_TIMEOUT, the containers, networks, volumes
and images that a filter names are removed.
"""

from __future__ import annotations

from tests.engine.tars import file, tar_of
from tests.harness.clients import Client

NAME = "testcontainers-stand-in:latest"
PORT = 8080

_PROGRAM = rb"""
use strict; use warnings; use IO::Socket::INET; use IO::Socket::UNIX; use IO::Select; $| = 1;
$SIG{PIPE} = "IGNORE";
sub ask {
    my ($method, $path) = @_;
    my $engine = IO::Socket::UNIX->new(Peer => "/var/run/docker.sock") or die "engine: $!";
    print $engine "$method /v1.41$path HTTP/1.0\r\nHost: e\r\n\r\n";
    local $/; return scalar <$engine>;
}
my ($number, $unit) = ($ENV{RYUK_RECONNECTION_TIMEOUT} // "10s") =~ /^(\d+)(ms|s)$/ or die "timeout";
my $patience = $unit eq "s" ? $number : $number / 1000;
my $server = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die "listen: $!";
ask("GET", "/version") =~ / 200 OK/ or die "no engine";
print "Started!\n";
my $ready = IO::Select->new($server); my (%said, %filters);
# The first one has a minute.
while (my @these = $ready->can_read($ready->count > 1 ? undef : %filters ? $patience : 60)) {
    for my $one (@these) {
        if ($one == $server) { my $new = $server->accept; $ready->add($new); $said{$new} = ""; next; }
        if (!sysread($one, $said{$one}, 4096, length $said{$one})) { $ready->remove($one); close $one; next; }
        while ($said{$one} =~ s/^([^\n]*?)\r?\n//) {
            next if $1 eq "";
            $filters{$1} = 1; print "filter $1\n"; syswrite($one, "ACK\n");
        }
    }
}
my $count;
sub each_of {
    my ($list, $key, $path, $more) = @_;
    for my $id (ask("GET", $list) =~ /"$key":"([\w.:-]+)"/g) { $count++; ask("DELETE", "$path/$id?$more"); }
}
for my $filter (sort keys %filters) {
    my $labels = join ",", map { '"' . $_ . '"' } $filter =~ /label=([^&]+)/g;
    my $query = qq({"label":[$labels]}); $query =~ s/([^\w.-])/sprintf "%%%02X", ord $1/ge;
    $count = 0;
    each_of("/containers/json?all=1&filters=$query", "Id", "/containers", "force=1&v=1");
    each_of("/networks?filters=$query", "Id", "/networks", "");
    each_of("/volumes?filters=$query", "Name", "/volumes", "force=1");
    each_of("/images/json?filters=$query", "Id", "/images", "force=1");
    print "removed $count of $filter\n";
}
"""


def make_reaper(docker: Client, debian: str) -> str:
    """Return the name of an image that has the stand-in, made from one with perl."""
    made = docker("create", "--network", "none", debian).stdout.strip()
    try:
        docker.raw("container", "cp", "-", f"{made}:/", stdin=tar_of([file("reaper", _PROGRAM)]))
        change = ("-c", 'ENTRYPOINT ["perl", "/reaper"]', "-c", f"EXPOSE {PORT}")
        docker("commit", *change, made, NAME)
    finally:
        docker("rm", made)
    return NAME
