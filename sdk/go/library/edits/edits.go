// Package edits makes the bindings' changes of the library's.
package edits

import (
	"tidegate"
	host "tidegate/bindings/tidegate_gateway_types"

	types "go.bytecodealliance.org/pkg/wit/types"
)

// Of makes them one by one.
func Of(edits []tidegate.Edit) []host.Edit {
	made := make([]host.Edit, len(edits))
	for i, edit := range edits {
		made[i] = of(edit)
	}
	return made
}

func of(edit tidegate.Edit) host.Edit {
	pair := types.Tuple2[string, string]{F0: edit.Name, F1: edit.Value}
	switch edit.Kind {
	case tidegate.EditAppendHeader:
		return host.MakeEditAppendHeader(pair)
	case tidegate.EditRemoveHeader:
		return host.MakeEditRemoveHeader(edit.Name)
	case tidegate.EditRenameHeader:
		return host.MakeEditRenameHeader(pair)
	case tidegate.EditSetQueryParameter:
		return host.MakeEditSetQueryParameter(pair)
	case tidegate.EditRemoveQueryParameter:
		return host.MakeEditRemoveQueryParameter(edit.Name)
	case tidegate.EditRenameQueryParameter:
		return host.MakeEditRenameQueryParameter(pair)
	case tidegate.EditSetPath:
		return host.MakeEditSetPath(edit.Value)
	case tidegate.EditSetStatus:
		return host.MakeEditSetStatus(edit.Code)
	case tidegate.EditSetBody:
		return host.MakeEditSetBody(edit.Body)
	}
	return host.MakeEditSetHeader(pair)
}

// Response makes a whole one.
func Response(response tidegate.Response) host.Response {
	return host.Response{
		Status:  response.Status,
		Headers: tidegate.Tuples(response.Headers),
		Body:    response.Body,
	}
}
