# SPDX-License-Identifier: MIT
# Hashes, sorts, regular expressions, fork and pipes. Prints sums, the same in every run.
use strict;
use warnings;

my $n = shift;
my %h = map { $_ => "value $_ " x 4 } 1 .. $n;
my $s = 0;
$s += length $h{$_} for 1 .. $n;
print "hash $s\n";
my @keys = sort { $h{$a} cmp $h{$b} } keys %h;
print "sort @keys[0 .. 5] $keys[-1]\n";
my $text = join ',', map { $h{$_} } 1 .. $n / 10;
my $count = () = $text =~ /value (\d*7\d*) value/g;
print "match $count\n";
(my $copy = $text) =~ s/value/VALUE/g;
print 'replace ', unpack('%32C*', $copy), "\n";
for my $k (1 .. 3) {
	my $pid = open(my $pipe, '-|') // die "fork: $!";
	if (!$pid) {
		my $sum = 0;
		$sum += length $h{$_} for grep { $_ % 3 == $k - 1 } keys %h;
		$h{$_} = 'changed' for 1 .. $n / 4;
		print "child $k $sum\n";
		exit 0;
	}
	print while <$pipe>;
	close $pipe;
}
print 'shell ', `expr 6 '*' 7`;
$s = 0;
$s += length $h{$_} for 1 .. $n;
print "again $s\n";
