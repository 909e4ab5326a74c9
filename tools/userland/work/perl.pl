# Perl: numbers as text and back, arithmetic, packing, sorting, regular expressions, big numbers, digests.
use strict; use warnings; use POSIX (); use List::Util qw(sum sum0 min max reduce shuffle); use Math::BigInt; use Math::BigFloat;
use Digest::SHA; use Digest::MD5; use MIME::Base64; use Time::Local; use Storable; use Encode;
my $rounds = $ENV{rounds};
my $state = 12345;
sub random { $state = ($state * 1103515245 + 12345) % 4294967296; return $state / 4294967296 }
sub wide { return (random() - 0.5) * 10 ** int(random() * 40 - 20) }
my $digest = Digest::SHA->new(256);
sub note { my ($name, @values) = @_; my $all = join ' ', @values; print "$name ", length($all) < 300 ? $all : Digest::SHA::sha256_hex(Encode::encode('UTF-8', $all)), "\n" }
my @x = map { wide() } 1 .. $rounds;
note "%.17g", map { sprintf '%.17g', $_ } @x;
note $_, map { my $v = $_; sprintf $_[0] // '%s', $v } @x[0 .. 5] for 'plain';
for my $f ('%e', '%.0f', '%.3f', '%g', '%a', '%.30e', '%d', '%x', '%20.10f', '%-12.4g|') { no warnings; note $f, map { sprintf $f, $_ } @x }
note "back", grep { $_ != (0 + sprintf '%.17g', $_) } @x;
for my $f (qw(sin cos exp log sqrt atan int)) {
  note $f, map { my $v = $f eq 'exp' ? $_ % 300 + $_ - int $_ : $f =~ /log|sqrt/ ? abs : $_; no strict 'refs'; sprintf '%.17g', $f eq 'atan' ? atan2($v, 3) : $f eq 'sin' ? sin $v : $f eq 'cos' ? cos $v : $f eq 'exp' ? exp $v : $f eq 'log' ? log $v : $f eq 'sqrt' ? sqrt $v : int $v } @x;
}
for my $f (qw(tan asin acos atan sinh cosh tanh cbrt expm1 log1p log2 erf tgamma lgamma rint round trunc floor ceil j0 y0)) {
  no strict 'refs';
  note $f, map { my $v = $f =~ /^a(sin|cos)$/ ? $_ / (1 + abs $_) : $f =~ /gamma|y0|log/ ? 0.1 + abs($_) : $_; $v = $v - 50 * int($v / 50) if $f =~ /gamma|h$|expm1/; sprintf '%.17g', &{"POSIX::$f"}($v) } @x;
}
note 'pow', map { sprintf '%.17g', abs($x[$_]) ** ($x[$_ + 1] - int $x[$_ + 1]) } 0 .. $#x - 1;
note 'fmod', map { sprintf '%.17g', POSIX::fmod($x[$_], $x[$_ + 1]) } 0 .. $#x - 1;
note 'integers', map { use integer; my ($p, $q) = (int(random() * 2 ** 62), 1 + int(random() * 2 ** 31)); ($p * $q, $p / $q, $p % $q, $p << 7, $p >> 9, $p ^ $q, ~$p) } 1 .. $rounds;
note 'unsigned', map { my ($p, $q) = (int(random() * 2 ** 63) * 2, 1 + int(random() * 2 ** 33)); ($p % $q, $p >> 3, $p ^ $q, $p & $q, -($p % 1000) % 7) } 1 .. $rounds;
for my $t (qw(c C s S l L q Q j n N v V f d F w U H8 B12)) {
  no warnings; my @v = map { $t =~ /[fdF]/ ? wide() : $t =~ /[HB]/ ? sprintf('%08x', random() * 2 ** 32) : int random() * ($t =~ /[wU]/ ? 50000 : 2 ** 31) } 1 .. 40;
  my $p = pack "($t)*", @v; note "pack $t", unpack('H*', Encode::is_utf8($p) ? Encode::encode('UTF-8', $p) : $p); note "unpack $t", map { /[.e]/ ? sprintf '%.17g', $_ : $_ } unpack "($t)*", $p;
}
note 'checksum', map { unpack "%${_}C*", join '', @x } 8, 16, 32, 64;
note 'sort', sort { $a <=> $b } @x; note 'strings', sort @x; note 'reverse', reverse sort { lc $a cmp lc $b } map { scalar reverse } @x;
note 'sum', sprintf '%.17g', sum(@x); note 'ends', min(@x), max(@x);
open my $in, '<', 'text' or die; my $text = do { local $/; <$in> };
my %count; $count{$_}++ for $text =~ /\w+/g; note 'words', map { "$_=$count{$_}" } sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
note 'vowels', scalar(() = $text =~ /\b(?=\w*([aeiou])\w*\1)\w{5,}/g); note 'lazy', scalar(() = $text =~ /a.*?e.*?i/gs);
(my $swap = $text) =~ s/(\w+)\W+(\w+)/$2 . ucfirst $1/ge; note 'swap', $swap; (my $case = $text) =~ tr/a-mn-z/n-za-m/; note 'rot13', $case;
note 'nested', "((a)(b(c)(d))e)" =~ /^(\((?:[^()]++|(?1))*\))$/ ? $1 : 'no'; note 'unicode', Encode::encode('UTF-8', join ' ', map { uc chr } 0xe0 .. 0xff, 0x3b1 .. 0x3c9, 0x430 .. 0x44f);
note 'factorial', Math::BigInt->new(200)->bfac; note 'root', Math::BigFloat->new(2)->bsqrt(120); note 'pi', Math::BigFloat->bpi(200); note 'e', Math::BigFloat->new(1)->bexp(100);
note 'modpow', Math::BigInt->new('123456789012345678901234567890')->bmodpow('98765432109876543210', '1000000000000000000000000000057');
note 'digests', Digest::MD5::md5_hex($text), map { Digest::SHA->new($_)->add($text)->hexdigest } 1, 224, 256, 384, 512, 512256;
note 'base64', encode_base64($text) ; note 'time', map { my @t = gmtime $_ * 98765432; timegm(@t), POSIX::strftime('%a %F %T %j %U', @t) } 1 .. 20;
my %tree = map { $_ => [$_ x 2, { $_ => random() }] } 'a' .. 'z'; $Storable::canonical = 1; note 'storable', unpack 'H*', Storable::freeze(\%tree);
note 'shuffle', do { srand 42; join ' ', map { int rand 1e9 } 1 .. 50 }; note 'crypt', crypt('secret', '$6$saltsalt$'), crypt('secret', 'ab') // 'none';
note 'local', join ',', map { eval $_ } '1/7', '1e308*10', '-1e308*10', '9**9**9-9**9**9', '0.1+0.2', '1e16+1', '18446744073709551615+1', '-7%3', '7%-3', '2**0.5', '10/3';
