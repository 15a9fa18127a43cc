package config

import "time"

// SRT is the section srt.
type SRT struct {
	Listen         string        `key:"listen" doc:"UDP address of the SRT listener; an empty host is every address of IPv4 and IPv6. Port 0 picks a free port and logs it."`
	Latency        time.Duration `key:"latency" min:"20ms" max:"1m" doc:"How long a packet that is missing is waited for at least: about four round trips to the farthest encoder. An encoder may ask for more. Packets in order are not held back."`
	Passphrase     Secret        `key:"passphrase" doc:"Passphrase that every encoder must have whose stream has none of its own, 10 to 79 bytes; the encoder chooses AES-128, 192 or 256. Empty lets them in without encryption. Better given by environment than in a file."`
	MaxConnections int           `key:"max_connections" min:"0" max:"1000000" doc:"Most SRT connections open at once, publishing or not; 0 is no limit."`
	MaxWaiting     int           `key:"max_waiting_per_address" min:"0" max:"1000000" doc:"Most SRT connections of one address that do not publish yet; 0 is no limit."`
}

func defaultSRT() SRT {
	return SRT{Listen: ":8890", Latency: 120 * time.Millisecond, MaxConnections: 1000, MaxWaiting: 256}
}

// srt holds the section srt to its rules.
func (v *checker) srt(s SRT) {
	v.address("srt.listen", s.Listen)
	v.passphrase("srt.passphrase", s.Passphrase)
}
