// Package plugin says how long a response may be kept, and not what made it.
package plugin

import (
	"fmt"

	"tidegate"
)

func init() { tidegate.Export(configure) }

type lifetime struct {
	MaxAge uint32 `json:"max-age"`
}

func configure(configuration tidegate.Configuration) (tidegate.Plugin, error) {
	plugin := lifetime{MaxAge: 60}
	err := configuration.Into(&plugin)
	return plugin, err
}

// TransformResponse decides on the response in hand.
func (plugin lifetime) TransformResponse() ([]tidegate.Edit, error) {
	value := "no-store"
	if tidegate.ResponseStatus() < 400 {
		value = fmt.Sprintf("max-age=%d", plugin.MaxAge)
	}
	return []tidegate.Edit{
		tidegate.SetHeader("cache-control", value),
		tidegate.RemoveHeader("server"),
	}, nil
}
