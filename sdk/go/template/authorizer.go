// Package plugin lets in who sends a token whose digest is the configuration's.
package plugin

import (
	"encoding/hex"

	"tidegate"
)

func init() { tidegate.Export(configure) }

type token struct {
	Header string `json:"header"`
	Digest string `json:"digest"`
}

func configure(configuration tidegate.Configuration) (tidegate.Plugin, error) {
	plugin := token{Header: "x-token"}
	err := configuration.Into(&plugin)
	return plugin, err
}

// Authorize decides on the request in hand.
func (plugin token) Authorize() (tidegate.Verdict, error) {
	value, there := tidegate.Header(plugin.Header)
	if !there {
		return tidegate.Unauthorized("Token"), nil
	}
	digest := hex.EncodeToString(tidegate.Digest([]byte(value)))
	if !tidegate.EqualSecret(digest, plugin.Digest) {
		return tidegate.Forbidden("another token"), nil
	}
	return tidegate.Allow("friend"), nil
}
