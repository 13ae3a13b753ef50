// Package export_tidegate_gateway_plugin is what the generated exports call.
package export_tidegate_gateway_plugin

import (
	"tidegate"
	"tidegate/bindings/tidegate_gateway_plugin"

	types "go.bytecodealliance.org/pkg/wit/types"
)

// Configure makes the plugin.
func Configure(configuration string) types.Result[tidegate_gateway_plugin.Setup, string] {
	if err := tidegate.Configure(configuration); err != nil {
		return types.Err[tidegate_gateway_plugin.Setup, string](err.Error())
	}
	return types.Ok[tidegate_gateway_plugin.Setup, string](tidegate_gateway_plugin.Setup{Reads: tidegate.Readings()})
}
