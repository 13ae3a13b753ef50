// Package plugin gives the body in capital letters, after a prefix.
package plugin

import (
	"bytes"

	"tidegate"
)

func init() { tidegate.Export(configure) }

type capitals struct {
	Prefix string `json:"prefix"`
}

func configure(configuration tidegate.Configuration) (tidegate.Plugin, error) {
	plugin := capitals{Prefix: "> "}
	err := configuration.Into(&plugin)
	return plugin, err
}

// TransformRequest decides on the request in hand.
func (plugin capitals) TransformRequest() (tidegate.Outcome, error) {
	body := tidegate.RequestBody()
	if len(body) == 0 {
		return tidegate.Outcome{}, nil
	}
	changed := append([]byte(plugin.Prefix), bytes.ToUpper(body)...)
	return tidegate.Outcome{Edits: []tidegate.Edit{
		tidegate.SetBody(changed),
		tidegate.SetHeader("x-changed", "yes"),
	}}, nil
}
