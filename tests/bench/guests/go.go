// Package plugin counts five headers: the authorizer of the benchmark's case guest-go.
package plugin

import "tidegate"

func init() { tidegate.Export(configure) }

type fiveHeaders struct{}

var names = [5]string{"x-one", "x-two", "x-three", "x-four", "x-five"}

func configure(tidegate.Configuration) (tidegate.Plugin, error) { return fiveHeaders{}, nil }

// Authorize decides on the request in hand.
func (fiveHeaders) Authorize() (tidegate.Verdict, error) {
	for _, name := range names {
		if _, there := tidegate.Header(name); !there {
			return tidegate.Forbidden("fewer"), nil
		}
	}
	return tidegate.Allow("five"), nil
}
