// Package plugin admits so many requests of each caller: some a second and, where configured, some a day.
package plugin

import "tidegate"

func init() { tidegate.Export(configure) }

type clients struct {
	Header    string  `json:"header"`
	Anonymous bool    `json:"anonymous"`
	Rate      float64 `json:"rate"`
	Burst     uint32  `json:"burst"`
	Limit     uint32  `json:"limit"`
}

func configure(configuration tidegate.Configuration) (tidegate.Plugin, error) {
	plugin := clients{Header: "x-client"}
	err := configuration.Into(&plugin)
	return plugin, err
}

// Reads has the host hand the header over with each call, which costs half of what asking for it does.
func (plugin clients) Reads() []tidegate.Reading {
	return []tidegate.Reading{tidegate.ReadHeader(plugin.Header)}
}

// Admit decides on the request in hand.
func (plugin clients) Admit() (tidegate.Admission, error) {
	name, there := tidegate.Given(0)
	if !there && !plugin.Anonymous {
		return tidegate.Reject(1000), nil // a name is missing, not time
	}
	key := "client " + name
	if admitted, retryMs := tidegate.TakeToken(key, plugin.Rate, plugin.Burst); !admitted {
		return tidegate.Reject(retryMs), nil
	}
	if plugin.Limit == 0 {
		return tidegate.Admit(), nil
	}
	taken, err := tidegate.TakeQuota(key, 1, tidegate.QuotaTerms{Limit: plugin.Limit, Period: tidegate.Day})
	if err == nil && !taken.Admitted {
		return tidegate.Exceeded(taken.RenewsInMs), nil
	}
	return tidegate.Admit(), err
}
